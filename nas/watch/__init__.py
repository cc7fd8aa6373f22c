"""Looking at a study while it is searched: only reads, takes no lock, and can miss nothing that is on the disk."""
