# The edge half on a Jetson with JetPack 6. Not run on a board.
#
#   docker build -f docker/jetson.Dockerfile -t mafsar .
#   docker run --rm -it --runtime nvidia -v "$PWD:/data" -w /data mafsar match support/ query.mp4
#
# NVIDIA's image has CUDA 12.6 and TensorRT 10.3 for Ubuntu 22.04; its tag has to fit the board's L4T
# (36.4 here; `mafsar doctor` or /etc/nv_tegra_release says which). Cameras: --device /dev/video0, and
# for CSI -v /tmp/argus_socket:/tmp/argus_socket.
ARG L4T=r36.4.0
FROM nvcr.io/nvidia/l4t-jetpack:${L4T}

RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ python3-dev python3-venv python3-libnvinfer \
    gstreamer1.0-tools \
 && rm -rf /var/lib/apt/lists/*
# The environment sees the system's TensorRT and brings everything else itself.
RUN python3 -m venv --system-site-packages /opt/mafsar \
 && /opt/mafsar/bin/python -m pip install --no-cache-dir --upgrade pip
COPY . /src
RUN /opt/mafsar/bin/python -m pip install --no-cache-dir /src && rm -rf /src
ENV PATH=/opt/mafsar/bin:$PATH MAFSAR_CACHE=/data/.mafsar-cache
ENTRYPOINT ["mafsar"]
CMD ["doctor"]
