"""Between images: mixup, the third slot of the training step.

Every image of a batch is mixed with a partner from the same batch, and so are their labels. With lam in [0, 1] drawn
once per batch from Beta(alpha, alpha), and a random permutation j = partner(i):

                    what is mixed                      weight lam_y of the label of i
    InputMixup      images                             lam
    ManifoldMixup   the output of a layer inside       lam
    Remix           images                             lam, or all the weight to the rarer class

All are callables `mix(model, images, targets, class_counts=..., generator=...)` that run the model themselves, because
manifold mixup happens inside it, and return its logits with soft targets. Soft targets rather than a sum of two losses,
lam loss(y_i) + (1 - lam) loss(y_j): under a loss that divides by its batch's sum of weights the two are the same only
while the partners are a permutation and all pairs share one lam, which is not so in Remix.

Nothing waits for an accelerator if the generator and the class counts are on the images' device: lam and partner are
drawn there and remain tensors.
"""

from .draws import draw_lambda, draw_partner
from .input import InputMixup
from .manifold import ManifoldMixup, forward_mixed
from .mixing import mix, mix_targets, soft_targets
from .remix import Remix, remix_lambda

__all__ = [
    "InputMixup",
    "ManifoldMixup",
    "Remix",
    "draw_lambda",
    "draw_partner",
    "forward_mixed",
    "mix",
    "mix_targets",
    "remix_lambda",
    "soft_targets",
]
