"""One cooperative trace by hand: the heart of TESSY in a flat script, without any of Weft's machinery but the
two embedded models. Read it from top to bottom; ``weft synth`` does the same, faster and for many prompts.

    python examples/one_trace.py
"""

from itertools import groupby

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from weft.micro import make_prompts, model_path
from weft.micro.oracle import is_style

# Two models with one vocabulary. The student will be trained; the teacher knows what it does not.
tokenizer = AutoTokenizer.from_pretrained(model_path("student"))
models = {name: AutoModelForCausalLM.from_pretrained(model_path(name)) for name in ("student", "teacher")}

prompt = next(iter(make_prompts(1, seed=1, split="finetune")))
messages = [{"role": "user", "content": prompt.prompt}]
text = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, enable_thinking=True, tokenize=False
)
if not text.endswith("<think>\n"):
    text += "<think>\n"
prefix = tokenizer(text, add_special_tokens=False).input_ids
close, end = tokenizer.convert_tokens_to_ids(["</think>", "<|im_end|>"])


def next_word(writer: str, ids: list[int]) -> list[int]:
    """The tokens of the writer's next word (greedy), or the one token that closes thinking."""
    word: list[int] = []
    while True:
        with torch.inference_mode():
            token = int(models[writer](torch.tensor([ids + word])).logits[0, -1].argmax())
        if token in (close, end):
            return word or [token]
        # A word ends where the next one begins with its space.
        if word and tokenizer.decode([token])[0].isspace():
            return word
        word.append(token)


# The cooperation. The writer proposes a word. Style words are the student's, capability words the teacher's:
# a word of the other kind is thrown away and the pen handed over, whose first word is kept unasked.
writer, ids, spans = "student", list(prefix), []
just_handed_over = True
while (word := next_word(writer, ids))[0] not in (close, end):
    mine = is_style(tokenizer.decode(word)) == (writer == "student")
    if not mine and not just_handed_over:
        writer, just_handed_over = ("teacher" if writer == "student" else "student"), True
        continue
    just_handed_over = False
    ids += word
    spans.append((writer, tokenizer.decode(word)))
if spans[-1][1].isspace():  # the closing tag brings a line feed of its own
    spans.pop(), ids.pop()

# The student alone writes the final answer.
ids += tokenizer("\n</think>\n\n", add_special_tokens=False).input_ids
answer: list[int] = []
while (word := next_word("student", ids + answer))[0] != end:
    answer += word

print(prompt.prompt, "\n")
for writer, words in groupby(spans, key=lambda span: span[0]):
    print(f"\033[{36 if writer == 'student' else 33}m{''.join(word for _, word in words)}\033[0m", end="")
print(f"\n\n{tokenizer.decode(answer)}    (right: {prompt.answer})")
