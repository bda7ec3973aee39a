"""The method as torch modules, one idea a file; `config` and `names` are free of torch."""
