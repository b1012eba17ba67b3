"""The project's own benchmark: a paced upstream, a load client, and what stands between them."""
