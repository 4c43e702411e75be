"""What a report knows of the built-in analyses: an order to read them in, and what each is judged by."""

KEY_NUMBERS: dict[str, dict[str, str]] = {
    "overview": {"mse": "MSE (per pixel)"},
    "sparsity": {
        "l0": "L0 (codes != 0 per sample)",
        "population_sparsity": "population sparsity (share of units active in a sample)",
        "hoyer": "Hoyer sparseness of a sample's codes (1: one code alone)",
        "treves_rolls": "Treves-Rolls a of a sample's codes (low: sparse)",
        "inactive_units": "inactive units (active on < 1 % of samples)",
        "dead_units": "dead units (code never != 0)",
    },
    "features": {
        "half_contribution_units": "units that make half of all contributions",
        "filter_cosine": "cosine of encoder filter and what a unit adds",
        "dead_units": "dead units (code never != 0)",
    },
    "reconstructions": {
        "mean": "mean MSE of the images shown (per pixel)",
        "worst": "worst MSE of the images shown (per pixel)",
    },
    "selectivity": {
        "selective_units": "units selective for a class",
        "selective_share": "selective units (share of all)",
        "auroc": "mean AUROC for the class told best",
        "label_bits": "mean bits a unit tells of the label",
    },
    "truncation": {
        "units_for_90_percent": "codes for 90 % of what all explain",
        "units_for_95_percent": "codes for 95 % of what all explain",
        "units_for_99_percent": "codes for 99 % of what all explain",
        "units_for_95_percent_consistency": "codes for the same nearest class on 95 % of images",
        "fvu_full": "FVU with all codes (share of variance)",
    },
    "importance": {
        "top_tenth_share": "importance of the top tenth of units (share)",
        "units_for_90_percent": "most important units for 90 % of what all explain",
        "greedy_units_for_90_percent": "greedily chosen units for 90 % of what all explain",
        "harmful_units": "harmful units (MSE falls without)",
        "lifetime_correlation": "rank correlation of importance and use",
    },
    "similarity": {
        "coherence": "coherence (largest |cosine| of two atoms)",
        "nearest_cosine": "mean |cosine| to the nearest atom",
        "duplicate_units": "units with a duplicate",
        "clusters": "clusters of similar atoms",
    },
    "stability": {
        "matched_cosine": "mean |cosine| of matched atoms",
        "high_cosine_share": "atoms found again (share of matched)",
    },
    "amortisation": {
        "fvu": "FVU of the run's own codes",
        "omp_fvu": "FVU of OMP's codes on the same atoms",
        "gap": "amortisation gap (difference of the two)",
        "encode_seconds": "seconds to encode the sample",
    },
    "probe": {
        "logistic_error": "test error of logistic regression",
        "svm_error": "test error of a linear SVM",
    },
    "robustness": {
        "gaussian_code_change": "Gaussian noise: code change (1: as between images)",
        "gaussian_support_change": "Gaussian noise: active units that change (1 - Jaccard)",
        "gaussian_clean_fvu": "Gaussian noise: clean image's FVU",
        "salt_and_pepper_code_change": "salt and pepper: code change (1: as between images)",
        "salt_and_pepper_support_change": "salt and pepper: active units that change (1 - Jaccard)",
        "salt_and_pepper_clean_fvu": "salt and pepper: clean image's FVU",
    },
}
"""By analysis, in reading order, the few numbers that answer its question: key and label."""


def reading_order(analysis: str) -> tuple[int, str]:
    """Sorts names of results: built-in analyses first, each before its variants, then a user's own by name."""
    names = list(KEY_NUMBERS)
    built_in = built_in_name(analysis)
    return (names.index(built_in) if built_in in names else len(names), analysis)


def built_in_name(analysis: str) -> str:
    """``sparsity`` of ``sparsity-0.5``, which is what it found at another threshold."""
    return analysis.partition("-")[0]
