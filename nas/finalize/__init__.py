"""Final training: picked designs trained again at full budget over several seeds, compressed, measured, compared."""
