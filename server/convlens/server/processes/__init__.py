"""Several server processes on one port, and the parent that starts and watches them."""
