"""GPT-NeoX's order again, one number at a time as its code walks: slow, plain, and sharing no code."""

import math

import numpy as np


def epochs_needed(tokens_per_epoch, sequence_length, samples):
    epochs = tokens = 0
    while True:
        epochs += 1
        tokens += tokens_per_epoch
        if (tokens - 1) // sequence_length >= samples:
            return epochs


def document_index(documents, epochs, generator):
    tiled = np.mgrid[0:epochs, 0:documents][1].reshape(-1).astype(np.int32)
    generator.shuffle(tiled)
    return tiled


def sample_index(sizes, documents, sequence_length, epochs, tokens_per_epoch):
    samples = (epochs * tokens_per_epoch - 1) // sequence_length
    rows, place, offset = [(0, 0)], 0, 0
    for _ in range(samples):
        remaining = sequence_length + 1
        while remaining != 0:
            length = sizes[documents[place]] - offset
            remaining -= length
            if remaining <= 0:
                offset += remaining + length - 1
                remaining = 0
            else:
                place += 1
                offset = 0
        rows.append((place, offset))
    return np.array(rows, dtype=np.int64)


def shuffle_index(samples, generator):
    order = np.arange(samples, dtype=np.uint32)
    generator.shuffle(order)
    return order


def build(sizes, samples, sequence_length, seed):
    """The three maps, as one process builds them."""
    generator = np.random.RandomState(seed)
    tokens_per_epoch = int(sum(sizes))
    epochs = epochs_needed(tokens_per_epoch, sequence_length, samples)
    documents = document_index(len(sizes), epochs, generator)
    rows = sample_index(sizes, documents, sequence_length, epochs, tokens_per_epoch)
    return documents, rows, shuffle_index(len(rows) - 1, generator)


def sample(texts, maps, position):
    """The tokens at a position, document by document."""
    documents, rows, order = maps
    number = int(order[position])
    (first, start), (last, end) = rows[number], rows[number + 1]
    if first == last:
        return list(texts[documents[first]][start : end + 1])
    found = list(texts[documents[first]][start:])
    for place in range(first + 1, last):
        found += list(texts[documents[place]])
    return found + list(texts[documents[last]][: end + 1])


def blend(weights, samples):
    counted = 0.0
    for weight in weights:
        counted += weight
    weights = np.array([weight / counted for weight in weights], dtype=np.float64)
    weights = (weights / np.sum(weights)).tolist()
    given, found = [0] * len(weights), []
    for number in range(samples):
        due = max(number, 1.0)
        worst, error = 0, weights[0] * due - given[0]
        for other in range(1, len(weights)):
            if weights[other] * due - given[other] > error:
                worst, error = other, weights[other] * due - given[other]
        found.append((worst, given[worst]))
        given[worst] += 1
    return found


def pythia_samples():
    return math.ceil(143000 * 1024 * 1.0 * 1.005)
