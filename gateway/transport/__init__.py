"""HTTP/1.1 towards an upstream, pushed: what arrives is handed on in the callback that reads it."""
