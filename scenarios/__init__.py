"""What it is measured on: one reader per kind of data set; `streams/` holds the versioned manifests."""
