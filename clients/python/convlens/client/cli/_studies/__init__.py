"""The commands of `convlens study`, one file each."""
