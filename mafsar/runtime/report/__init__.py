"""Reports: pages, pictures and descriptions for people."""
