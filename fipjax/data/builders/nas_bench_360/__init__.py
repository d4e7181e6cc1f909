"""The ten tasks of NAS-Bench-360 (Tu et al., NeurIPS 2022, arXiv 2110.05668), one file each.

Splits are those of the benchmark's public code (github.com/rtu715/NAS-Bench-360), which has training, validation and
test for each; where ORCA (arXiv 2302.05738) uses others the file says so. Values are stored as they are published;
standardising is for whoever reads.
"""
from fipjax.data.builders.nas_bench_360 import (
    cifar100,
    cosmic,
    darcy,
    deepsea,
    ecg,
    fsd50k,
    ninapro,
    psicov,
    satellite,
    spherical,
)

TASKS = {m.TASK.name: m.TASK for m in (cifar100, spherical, darcy, psicov, cosmic, ninapro, fsd50k, ecg, satellite,
                                       deepsea)}
