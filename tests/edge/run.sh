#!/bin/sh
# run.sh PYTHON FOLDER [REQUIREMENT]: the edge half in an environment of its own, without torch.
#
# Installs the package's base dependencies and nothing else, then runs every verb that an edge
# device has on the shipped bundle; then adds the graphs extra and makes the bundle's other graphs.
# A wheel in dist/ that is not this Python's is built again.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$1 folder=$2 also=${3:-}
rm -rf "$folder"
"$python" -m venv "$folder/venv"
folder=$(cd "$folder" && pwd)  # whole: below, the working folder changes
bin=$folder/venv/bin
tag=$("$bin/python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
wheel=$(ls "$root"/dist/*-"$tag"-"$tag"-*.whl 2>/dev/null | head -n 1)
if [ -z "$wheel" ]; then
  MAFSAR_CUDA=OFF "$bin/python" -m pip --disable-pip-version-check wheel --quiet --no-deps \
    --wheel-dir "$folder/wheel" "$root"
  wheel=$(ls "$folder"/wheel/*.whl)
fi
if [ -n "$also" ]; then
  # A version under test stands in for the package that this machine would get.
  "$bin/python" -m pip --disable-pip-version-check install --quiet "$also"
  "$bin/python" "$root/tests/edge/needs.py" "$wheel" >"$folder/needs.txt"
  "$bin/python" -m pip --disable-pip-version-check install --quiet -r "$folder/needs.txt"
  "$bin/python" -m pip --disable-pip-version-check install --quiet --no-deps "$wheel"
else
  "$bin/python" -m pip --disable-pip-version-check install --quiet "$wheel"
fi
cd "$folder"
MAFSAR_CACHE=$PWD/cache "$bin/python" "$root/tests/edge/verbs.py" "$bin/mafsar" $also
if [ -z "$also" ]; then
  "$bin/python" -m pip --disable-pip-version-check install --quiet "$wheel[graphs]"
  MAFSAR_CACHE=$PWD/cache "$bin/python" "$root/tests/edge/graphs.py" "$bin/mafsar"
fi
