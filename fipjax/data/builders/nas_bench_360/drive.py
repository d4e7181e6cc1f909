"""Where the benchmark's files are."""
DRIVE = 'https://drive.google.com/drive/folders/1OOp6UrCiP79mTIkCrUdjjHWDo8K0bJUw, linked by rtu715/NAS-Bench-360'
