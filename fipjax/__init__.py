"""fipjax: target-aware pretraining and transfer in JAX."""

__version__ = '0.1.0'
