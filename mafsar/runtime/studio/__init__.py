"""Local pages: the studio, in which a support is made and tried, and the page of `watch --serve`."""
