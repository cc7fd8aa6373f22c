"""What a person sees of a study: the front as a table, as files, as a picture and as a page. Reads records alone."""
