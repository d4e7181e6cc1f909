"""PDEBench's eight tasks, regenerated: one file an equation, `layout` for the files, `write` for writing them.

    python -m fipjax.data.pde --task=burgers --n=1000 --out=1D_Burgers_Sols_Nu1.0.hdf5

Sources: M. Takamoto et al., "PDEBench: An Extensive Benchmark for Scientific Machine Learning", NeurIPS 2022, and for
initial conditions, constants and layouts the public repository pdebench/PDEBench as of May 2025. Equations, constants
and layouts are PDEBench's. The schemes and the code are not, so a field is not the official file's field, but
one of the same distribution.
"""
