"""The method as torch modules, one idea a file; `config` and `names` do not import torch."""
