"""A second, naive implementation of the network's recurrent parts in NumPy: image by image, step by step, in float64.

Weights are a dict from a variable's name to its value; `scope` is the prefix of the names used. States are dicts with
"cell" and "hidden" (LSTM) or "hidden" alone (GRU).
"""

import numpy as np

GO, EOS = 1, 2


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x):
    e = np.exp(np.asarray(x, np.float64) - np.max(x))
    return e / e.sum()


def linear(weights, scope, x):
    """x W + b."""
    return x @ weights[f"{scope}/kernel"] + weights[f"{scope}/bias"]


def lstm_step(weights, scope, x, state):
    """Runs one step; the kernel has four blocks of gates: input, candidate, forget, output."""
    gates = linear(weights, scope, np.concatenate([x, state["hidden"]]))
    units = len(state["hidden"])
    cell, hidden = np.zeros(units), np.zeros(units)
    for u in range(units):
        i, j, f, o = (gates[block * units + u] for block in range(4))
        cell[u] = sigmoid(f) * state["cell"][u] + sigmoid(i) * np.tanh(j)
        hidden[u] = sigmoid(o) * np.tanh(cell[u])
    return {"cell": cell, "hidden": hidden}


def gru_step(weights, scope, x, state):
    """Runs one step: `update` keeps the old state, `reset` weakens it before the candidate sees it."""
    old = state["hidden"]
    units = len(old)
    gates = sigmoid(linear(weights, f"{scope}/gates", np.concatenate([x, old])))
    reset, update = gates[:units], gates[units:]
    candidate = np.tanh(linear(weights, f"{scope}/candidate", np.concatenate([x, reset * old])))
    return {"hidden": np.array([update[u] * old[u] + (1.0 - update[u]) * candidate[u] for u in range(units)])}


def cell_step(use_gru):
    return gru_step if use_gru else lstm_step


def sequence(weights, scope, xs, use_gru):
    """Returns the states after each of the steps xs [S, inputs], from a zero state."""
    bias = weights[f"{scope}/candidate/bias"] if use_gru else weights[f"{scope}/bias"]
    units = len(bias) if use_gru else len(bias) // 4
    state = {name: np.zeros(units) for name in (["hidden"] if use_gru else ["cell", "hidden"])}
    states = []
    for x in xs:
        state = cell_step(use_gru)(weights, scope, x, state)
        states.append(state)
    return states


def encode(weights, scope, xs, use_gru):
    """Encodes one image without padding: xs [S, F] -> (memory [S, 2U], last forward state, last backward state)."""
    forward = sequence(weights, f"{scope}/forward", xs, use_gru)
    backward = sequence(weights, f"{scope}/backward", xs[::-1], use_gru)
    memory = []
    for s in range(len(xs)):
        # Column s is the (S - s)-th step of the backward direction.
        memory.append(np.concatenate([forward[s]["hidden"], backward[len(xs) - 1 - s]["hidden"]]))
    return np.array(memory), forward[-1], backward[-1]


def bridge(weights, scope, forward, backward, layers):
    """Returns the decoder's initial states: layer k has the k-th piece of the projections."""
    states = [{} for _ in range(layers)]
    for name in forward:
        projected = linear(weights, f"{scope}/{name}", np.concatenate([forward[name], backward[name]]))
        if name == "hidden":
            projected = np.tanh(projected)
        units = len(projected) // layers
        for k in range(layers):
            states[k][name] = projected[k * units:(k + 1) * units]
    return states


def attend(weights, scope, memory, states):
    """Returns the weights [S] of additive attention over memory [S, D], one image's own steps."""
    query = linear(weights, f"{scope}/query", np.concatenate(
        [state[name] for state in states for name in ("cell", "hidden") if name in state]))
    scores = []
    for step in memory:
        mixed = np.tanh(step @ weights[f"{scope}/memory"] + query)
        scores.append(mixed @ weights[f"{scope}/v"][:, 0])
    return softmax(np.array(scores))


def decoder_step(weights, scope, memory, previous, context, states, use_gru):
    """Runs one step: (logits [V], attention [S], context [D], states)."""
    x = linear(weights, f"{scope}/input", np.concatenate([weights[f"{scope}/embedding"][previous], context]))
    new_states = []
    for k, state in enumerate(states):
        state = cell_step(use_gru)(weights, f"{scope}/layer{k}", x, state)
        new_states.append(state)
        x = state["hidden"]
    attention = attend(weights, f"{scope}/attention", memory, new_states)
    context = np.zeros(memory.shape[1])
    for weight, step in zip(attention, memory):
        context += weight * step
    return linear(weights, f"{scope}/output", np.concatenate([x, context])), attention, context, new_states


def decode_taught(weights, scope, memory, states, use_gru, teacher):
    """Decodes with teacher forcing: (logits [T, V], attention [T, S])."""
    context, logits, attention = np.zeros(memory.shape[1]), [], []
    for previous in teacher:
        step_logits, step_attention, context, states = decoder_step(
            weights, scope, memory, previous, context, states, use_gru)
        logits.append(step_logits)
        attention.append(step_attention)
    return np.array(logits), np.array(attention)


def decode_greedy(weights, scope, memory, states, use_gru, steps):
    """Decodes greedily, continuing after EOS: (logits [T, V], attention [T, S], ids [T])."""
    previous, context, logits, attention, ids = GO, np.zeros(memory.shape[1]), [], [], []
    for _ in range(steps):
        step_logits, step_attention, context, states = decoder_step(
            weights, scope, memory, previous, context, states, use_gru)
        previous = int(np.argmax(step_logits))
        logits.append(step_logits)
        attention.append(step_attention)
        ids.append(previous)
    return np.array(logits), np.array(attention), ids


def sequence_loss(logits, targets, counts):
    """Returns one sample's mean of -log p(target) over the steps that count."""
    losses = [-np.log(softmax(logits[t])[targets[t]]) for t in range(len(targets)) if counts[t]]
    return sum(losses) / len(losses)


def sequence_probability(logits):
    """Returns the product of the steps' largest probabilities, up to and including the first EOS."""
    product = 1.0
    for step in logits:
        product *= softmax(step).max()
        if np.argmax(step) == EOS:
            break
    return product
