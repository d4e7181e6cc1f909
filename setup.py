"""Installation of fipjax. Why each dependency is here: docs/decisions.md, section 1."""
import pathlib

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent

setup(
    name='fipjax',
    version='0.1.0',
    description='Target-aware pretraining and transfer in JAX',
    long_description=(HERE / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=find_packages(include=['fipjax', 'fipjax.*']),
    install_requires=[
        'absl-py>=2.1,<3',
        'array-record>=0.8,<1',
        'chex>=0.1.90,<0.2',
        'flax>=0.12,<1',
        'grain>=0.2.18,<0.3',
        'h5py>=3.12,<4',
        'importlib_resources>=6',  # tensorflow-datasets imports it and does not ask for it
        'jax>=0.10,<0.13',
        'matplotlib>=3.9,<4',
        'ml-collections>=1.1,<2',
        'numpy>=2.0,<3',
        'optax>=0.2.8,<0.3',
        'orbax-checkpoint>=0.12,<1',
        'ott-jax>=0.6,<0.7',
        'pillow>=11',
        'pyyaml>=6,<7',
        'safetensors>=0.8,<1',
        'scikit-learn>=1.6,<2',
        'scipy>=1.14,<2',
        'tensorflow-datasets>=4.9.10,<5',
        'tokenizers>=0.20,<1',
        'tqdm>=4.66,<5',
    ],
    extras_require={
        'test': ['pytest>=9,<10', 'pytest-xdist>=3.8,<4'],
        'notebooks': ['jupytext>=1.16', 'nbclient>=0.10', 'ipykernel>=6'],
        'prepare': ['tensorflow-cpu>=2.21'],  # only for preparing stock TFDS sets
        'gpu': ['jax[cuda13]>=0.10,<0.13'],
        'tpu': ['jax[tpu]>=0.10,<0.13'],
    },
    entry_points={'console_scripts': ['fipjax=fipjax.main:run']},
)
