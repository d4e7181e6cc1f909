"""What the wings run: each file is one chain of stages; fipjax.experiment starts them."""
