"""Prints what a wheel needs, ONNX Runtime left out: `needs.py WHEEL`."""

import email
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(wheel.read(name))
for line in metadata.get_all("Requires-Dist", []):
    if "extra ==" not in line and not line.startswith("onnxruntime"):
        sys.stdout.write(line + "\n")
