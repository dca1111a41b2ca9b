"""Save a tiny random language model and its tokenizer: ``python tiny_model.py FOLDER QUESTION``.

Nothing is downloaded.  The model answers the question with some words and then ends by itself;
``expected.json`` beside it tells the answer that transformers' own ``generate`` gives.
"""

from __future__ import annotations

import json
from pathlib import Path
import sys

from tokenizers import models, pre_tokenizers, Tokenizer
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<s>", "</s>"]
WORDS = (
    "the sea is near and blue it rains on a quiet morning over hills user assistant system :"
    " привет мир как дела сегодня хорошо \U0001f642 \U0001f30a été naïve 東京 tell me more"
).split()
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)
LEAST, MOST = 8, 40  # words of the answer


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer for which a word is a token."""
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[0]))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token=SPECIAL[0], bos_token=SPECIAL[1], eos_token=SPECIAL[2],
        pad_token=SPECIAL[2], chat_template=TEMPLATE,
    )


def save(folder: Path, question: str) -> None:
    """Write all files, of the first random model that has enough to say."""
    words = tokenizer()
    said = [{"role": "user", "content": question}]
    prompt = words.apply_chat_template(
        said, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=4096,
        bos_token_id=1, eos_token_id=2, pad_token_id=2, initializer_range=0.4,
    )
    size = prompt["input_ids"].shape[1]
    for seed in range(1000):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
        told = model.generate(**prompt, do_sample=False, max_new_tokens=MOST)[0][size:].tolist()
        # The first word that is new after so many others is made the last of every answer.
        ends = [at for at in range(LEAST, len(told)) if told[at] not in told[:at]]
        if ends and not set(told[:ends[0]]) & {0, 1, 2}:
            break
    else:
        raise SystemExit("no random model has enough to say")
    model.generation_config.eos_token_id = told[ends[0]]
    model.generation_config.do_sample = False
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    text = words.decode(told[:ends[0] + 1])  # the end is told, as a word and no special token
    expected = {"question": question, "text": text, "prompt_tokens": size}
    (folder / "expected.json").write_text(json.dumps(expected), "utf-8")


if __name__ == "__main__":
    save(Path(sys.argv[1]), sys.argv[2])
