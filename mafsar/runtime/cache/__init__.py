"""The cache: features and bundles that need not be made twice."""
