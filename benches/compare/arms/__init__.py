"""The arms, one module for each library; nothing is imported before a child process makes the arm."""

from compare.arm import Spec

FLOAT32 = 1e-3
HALF = 0.2
"""Largest error of a sum of 32 products of unit vectors that bfloat16, with its 8 bits, explains."""

SPECS = [
    Spec("latewood residual 2-bit", "latewood", "latewood:Indexed", "approximate", ("residual", 2), index=True),
    Spec("latewood residual 4-bit", "latewood", "latewood:Indexed", "approximate", ("residual", 4), index=True),
    Spec("latewood flat 4-bit", "latewood", "latewood:Indexed", "approximate", ("flat", 4), index=True),
    Spec("latewood.maxsim float32", "latewood", "latewood:Exact", "exact", ("float32", "float32"), FLOAT32),
    Spec("latewood.maxsim float16", "latewood", "latewood:Exact", "exact", ("float16", "float32"), HALF),
    Spec("latewood.maxsim float32 in bfloat16", "latewood", "latewood:Exact", "exact", ("float32", "bfloat16"), HALF),
    Spec("latewood.maxsim float16 in bfloat16", "latewood", "latewood:Exact", "exact", ("float16", "bfloat16"), HALF),
    Spec("numkong bfloat16", "numkong", "numkong:Packed", "exact", ("bfloat16",), HALF, threads=False),
    Spec("numkong float32", "numkong", "numkong:Packed", "approximate", ("float32",), threads=False),
    Spec("maxsim-cpu float32", "maxsim-cpu", "maxsim_cpu:Variable", "exact", (), FLOAT32),
    Spec("torch padded bfloat16", "torch", "torch:Padded", "exact", ("bfloat16",), HALF),
    Spec("torch padded float32", "torch", "torch:Padded", "exact", ("float32",), FLOAT32),
    Spec("sentence-transformers bfloat16", "sentence-transformers", "torch:Util", "exact", ("bfloat16",), HALF),
    Spec("sentence-transformers float32", "sentence-transformers", "torch:Util", "exact", ("float32",), FLOAT32),
    Spec("qdrant-edge TurboQuant 4-bit", "qdrant-edge-py", "qdrant:Shard", "approximate", ("Bits4",), index=True),
    Spec("qdrant-edge float32", "qdrant-edge-py", "qdrant:Shard", "exact", (), FLOAT32, index=True),
    Spec("fast-plaid 4-bit", "fast-plaid", "fast_plaid:Subset", "search", (4,), index=True),
    Spec("xtr-warp-rs 4-bit", "xtr-warp-rs", "xtr_warp:Subset", "search", (4,), index=True),
]
