"""Why a graph refused an image, from TensorFlow's message; free of TensorFlow, for clients of servers."""

import re

REFUSED = re.compile(r"assertion failed: \[(.*?)\]|Summarized data: b'(.*?)'", re.DOTALL)


def refusal_in(message: str) -> str:
    """Returns the reason in TensorFlow's message of an InvalidArgument error, in one line."""
    found = REFUSED.search(message)
    if found:
        return found.group(1) or found.group(2)
    return message.split("\n")[0].split("[[")[0].split(" [Op:")[0].rpartition("}} ")[2].strip()
