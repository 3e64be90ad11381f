"""The learning rate as a pure function of the update."""

from treering.config.schema import TrainingSection

# Taylor coefficients of cos(πx) in x², (−1)^k π^(2k) ÷ (2k)!, rounded from 40 digits; the libraries' cosines differ in the
# last bit.
_COSINE = (
    1.0,
    -4.934802200544679,
    4.0587121264167685,
    -1.3352627688545895,
    0.2353306303588932,
    -0.02580689139001406,
    0.0019295743094039231,
    -0.0001046381049248457,
    4.303069587032947e-06,
    -1.3878952462213771e-07,
    3.604730797462501e-09,
    -7.700707130601354e-11,
    1.3768647280377414e-12,
)


def learning_rate(training: TrainingSection, update: int) -> float:
    """Return the rate used *for* update n, the one from step n to step n + 1.

    Args:
        update: n in [0, training.steps).

    Source:
        `neox-v1`: GPT-NeoX d36f623f and v1.0, megatron/learning_rates.py (what trained Pythia): the first update has rate
        0, the cosine goes towards 0 over all steps and is clipped at the minimum. `neox`: GPT-NeoX since pull request
        1379: the first update has the second's rate, the cosine ends at the minimum after steps − warmup.

    Exact:
        IEEE 754 operations one at a time, no library functions: equal on every machine.
    """
    name, warmup = training.schedule.name, training.schedule.warmup_steps
    peak, floor, last = training.optimizer.learning_rate, training.schedule.minimum_learning_rate, training.steps
    if name == "neox-v1":
        return _neox_v1(update, peak, floor, warmup, last)
    if name == "neox":
        return _neox(update, peak, floor, warmup, last)
    if update < warmup:
        return peak * (update + 1) / warmup
    travelled = (update - warmup) / max(1, last - 1 - warmup)
    match name:
        case "cosine":
            return floor + (peak - floor) * (0.5 * (1.0 + cosine_of_half_turns(travelled)))
        case "linear":
            return floor + (peak - floor) * (1.0 - travelled)
    return peak


def cosine_of_half_turns(x: float) -> float:
    """Return cos(πx) for x in [0, 1], the same bits on every machine."""
    if x > 0.5:
        return -cosine_of_half_turns(1.0 - x)
    square, result = x * x, _COSINE[-1]
    for coefficient in _COSINE[-2::-1]:
        result = result * square + coefficient
    return result


def _neox_v1(update: int, peak: float, floor: float, warmup: int, last: int) -> float:
    count = min(update, last - warmup)
    if warmup > 0 and update <= warmup:
        return peak * count / warmup
    return max(peak / 2.0 * (cosine_of_half_turns((count - warmup) / last) + 1.0), floor)


def _neox(update: int, peak: float, floor: float, warmup: int, last: int) -> float:
    if warmup > 0 and update <= warmup:
        return peak * max(1, update) / warmup
    travelled = min(1.0, (update - warmup) / (last - warmup))
    return floor + (peak - floor) / 2.0 * (cosine_of_half_turns(travelled) + 1.0)
