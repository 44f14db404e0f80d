"""POET in a plain TRL script: take another trainer, and the responses of a pair are cut to equal length.

Two micro models answer the same questions; the teacher's terse answers are chosen and the student's chatty
ones rejected. The student learns from these pairs twice: TRL's way (`none`) and POET's (`equal-length`).

    python examples/poet_in_trl.py
"""

import tempfile
import warnings

import torch
from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from transformers.utils.logging import disable_progress_bar
from trl import DPOConfig

from weft.micro import make_prompts, model_path
from weft.preference import PrefixDPOTrainer

torch.set_num_threads(1)  # matrices this small only lose by being shared
disable_progress_bars()
disable_progress_bar()
warnings.simplefilter("ignore", FutureWarning)  # TRL names an option as transformers no longer does
student, teacher = str(model_path("student")), str(model_path("teacher"))
tokenizer = AutoTokenizer.from_pretrained(student, padding_side="left")


def pairs(number: int, seed: int) -> Dataset:
    """Raw preference rows, as TRL takes them."""
    chats = [[{"role": "user", "content": one.prompt}] for one in make_prompts(number, seed, "finetune")]
    prompts = tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    columns = {"prompt": prompts}
    for column, name in (("chosen", teacher), ("rejected", student)):
        model = AutoModelForCausalLM.from_pretrained(name)
        ids = model.generate(**inputs, do_sample=False, max_new_tokens=160)
        answers = tokenizer.batch_decode(ids[:, inputs.input_ids.size(1) :])
        columns[column] = [answer.partition("<|im_end|>")[0] for answer in answers]
    return Dataset.from_dict(columns)


train, held_out = pairs(64, seed=1), pairs(32, seed=2)
for prefix in ("none", "equal-length"):
    print(f"\n--- prefix={prefix}")
    args = DPOConfig(
        tempfile.mkdtemp(), max_steps=16, per_device_train_batch_size=8, learning_rate=5e-5, logging_steps=4,
        bf16=False, gradient_checkpointing=False, save_strategy="no", report_to="none", disable_tqdm=True,
        dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = PrefixDPOTrainer(student, None, args, None, train, held_out, prefix=prefix)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    for entry in trainer.state.log_history[:-1]:
        print(f"step {entry['step']:2}  loss {entry['loss']:.4f}  accuracy {entry['rewards/accuracies']:.2f}")
    found = trainer.evaluate()
    early, whole = (found[f"eval_rewards/accuracies@{tokens}"] for tokens in (8, "all"))
    print(f"held out: accuracy {early:.2f} on the first 8 tokens, {whole:.2f} on whole responses")
