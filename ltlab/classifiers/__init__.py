"""What a stage may do to the classifier at its start: reset, re-scale or replace it.

The features of a network trained on a long tail are better than its classifier: the weight vectors of rare classes
stay short, so their logits stay low (Kang et al., 2020). Each function here takes the trained model and returns what
replaces `model.classifier`; a stage has it as `Stage(classifier=fresh, ...)` and calls it as

    classifier(model, images, labels, class_counts) -> nn.Module

with the training images, uint8 (N, 3, H, W), uncropped and in memory or on disk, their labels and the class counts;
and with crop=..., the side of the centre crop that evaluation takes, or None, if it has such a parameter. A stage of 0
epochs does nothing else: post-hoc corrections are such stages.

    fresh                a new one of the same kind         cRT          then trained
    weight_scaling       one learnable factor per class     LWS          then trained
    tau_normalised       w_c / |w_c|^tau                    tau-norm     ready
    nearest_class_mean   cosine to the class's mean         NCM          ready
    logit_adjusted       bias lowered by tau log prior      post hoc     ready
    scaled_linear        one learnable factor per class     MiSLAS       then trained, with weight and bias
    aligned              scale and shift behind a gate      DisAlign     then trained
    with_prior           small, every class at a low score  sigmoids     then trained
    cosine               scaled cosines in its place        Seesaw       then trained

A function says by `@Change` which kinds of classifier it needs and which it leaves, so that a recipe refuses stages
that do not go together before anything is trained, and a checkpoint tells what to rebuild. Without it, any classifier
will do, and resuming calls the function again.

Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020.
"""

from .changes import (
    TAUS,
    aligned,
    choose_tau,
    class_means,
    classifier_inputs,
    cosine,
    fresh,
    logit_adjusted,
    nearest_class_mean,
    scaled_linear,
    tau_normalised,
    tau_normalised_weight,
    weight_scaling,
    with_prior,
)
from .kinds import CLASSIFIERS, Change, Kind, declared
from .layers import (
    AUTHORS_WIDTH,
    FORMS,
    SCALE,
    AlignedClassifier,
    CosineClassifier,
    LearntCosineClassifier,
    ScaledLinear,
    WeightScaling,
    take_scale,
)

__all__ = [
    "AUTHORS_WIDTH",
    "CLASSIFIERS",
    "FORMS",
    "SCALE",
    "TAUS",
    "AlignedClassifier",
    "Change",
    "CosineClassifier",
    "Kind",
    "LearntCosineClassifier",
    "ScaledLinear",
    "WeightScaling",
    "aligned",
    "choose_tau",
    "class_means",
    "classifier_inputs",
    "cosine",
    "declared",
    "fresh",
    "logit_adjusted",
    "nearest_class_mean",
    "scaled_linear",
    "take_scale",
    "tau_normalised",
    "tau_normalised_weight",
    "weight_scaling",
    "with_prior",
]
