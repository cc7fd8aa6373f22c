def flash_pages(path, manifest):
    return -(-path.stat().st_size // 4096)  # whole pages of 4 KiB
