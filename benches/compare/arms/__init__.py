"""The arms, one module for each library; nothing is imported before a child process makes the arm."""

from typing import Any

from compare.arm import Spec, System

SPECS = [
    Spec("latewood residual 2-bit", "latewood", "latewood:Indexed", ("residual", 2), index=True),
    Spec("latewood residual 4-bit", "latewood", "latewood:Indexed", ("residual", 4), index=True),
    Spec("latewood flat 4-bit", "latewood", "latewood:Indexed", ("flat", 4), index=True),
    Spec("latewood.maxsim float32", "latewood", "latewood:Exact", ("float32", "float32")),
    Spec("latewood.maxsim float16", "latewood", "latewood:Exact", ("float16", "float32")),
    Spec("latewood.maxsim float32 in bfloat16", "latewood", "latewood:Exact", ("float32", "bfloat16")),
    Spec("latewood.maxsim float16 in bfloat16", "latewood", "latewood:Exact", ("float16", "bfloat16")),
    Spec("numkong bfloat16", "numkong", "numkong:Packed", ("bfloat16",), threads=False),
    Spec("numkong float32", "numkong", "numkong:Packed", ("float32",), threads=False),
    Spec("lateweave float32", "lateweave", "lateweave:Stored", ("float32",), index=True),
    Spec("lateweave int8", "lateweave", "lateweave:Stored", ("int8",), index=True),
    Spec("maxsim-cpu float32", "maxsim-cpu", "maxsim_cpu:Variable"),
    Spec("torch padded bfloat16", "torch", "torch:Padded", ("bfloat16",)),
    Spec("torch padded float32", "torch", "torch:Padded", ("float32",)),
    Spec("sentence-transformers bfloat16", "sentence-transformers", "torch:Util", ("bfloat16",)),
    Spec("sentence-transformers float32", "sentence-transformers", "torch:Util", ("float32",)),
    Spec("qdrant-edge TurboQuant 4-bit", "qdrant-edge-py", "qdrant:Shard", ("Bits4",), index=True),
    Spec("qdrant-edge float32", "qdrant-edge-py", "qdrant:Shard", index=True),
    Spec("fast-plaid 4-bit", "fast-plaid", "fast_plaid:Subset", (4,), search=True, index=True),
    Spec("xtr-warp-rs 4-bit", "xtr-warp-rs", "xtr_warp:Subset", (4,), search=True, index=True),
]

DEVIATIONS = [*({"deviations": deviations} for deviations in (0, 1, 2, 3)), {}, {"deviations": 5}, {"deviations": 6}]
"""Of latewood's searches; 3.75 is the default."""


def ways(*gatherers: str, **always: Any) -> dict[str, list[dict[str, Any]]]:
    """Sweep each of latewood's ways to gather candidates over `DEVIATIONS`; exact search has no knob."""
    lines = {"default": [{**always, **setting} for setting in DEVIATIONS]}
    lines |= {way: [{"gather": way, **always, **setting} for setting in DEVIATIONS] for way in gatherers}
    return lines | {"exact": [{"gather": "exact", **always}]}


SYSTEMS = [
    System("latewood codes", "latewood", "latewood:Search", ({"fde": True},), lines=ways("flood", "postings", "fde")),
    System("latewood float16", "latewood", "latewood:Search", ({"keep_vectors": "float16"},), lines=ways()),
    System(
        "tachiom",
        "tachiom",
        "tachiom:Search",
        lines={
            "search": [
                {"k_centroids": 10, "k_docs_to_score": 200},
                {},
                {"k_centroids": 40, "k_docs_to_score": 1000},
                {"k_centroids": 80, "k_docs_to_score": 2000},
                {"k_centroids": 80, "k_docs_to_score": 4000, "alpha": None},
            ]
        },
    ),
    System(
        "next-plaid",
        "next-plaid-arm",
        "next_plaid:Search",
        (4,),
        lines={
            "search": [
                {"n_ivf_probe": 2, "n_full_scores": 512},
                {"n_ivf_probe": 4, "n_full_scores": 1024},
                {},
                {"n_ivf_probe": 32, "n_full_scores": 8192, "threshold": False},
            ]
        },
    ),
    System(
        "fast-plaid",
        "fast-plaid",
        "fast_plaid:Search",
        (4,),
        lines={
            "search": [
                {"n_ivf_probe": 2, "n_full_scores": 512},
                {"n_ivf_probe": 4, "n_full_scores": 1024},
                {},
                {"n_ivf_probe": 32, "n_full_scores": 8192},
            ]
        },
    ),
    System(
        "xtr-warp-rs",
        "xtr-warp-rs",
        "xtr_warp:Search",
        (4,),
        lines={
            "search": [
                {},
                {"nprobe": 8},
                # PyLate's
                {"nprobe": 32, "t_prime": 100_000},
                {"nprobe": 32, "t_prime": 100_000, "centroid_score_threshold": 0.0},
            ]
        },
    ),
]
