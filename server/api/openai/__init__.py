"""OpenAI's completions API, for the clients written for it: https://platform.openai.com/docs/api-reference/completions.

Paths, parameters, defaults, answers, streams and errors are OpenAI's. What differs:

- Parameters that the engine has nothing for are refused unless they have their neutral value; so are unknown ones.
- `top_k` is there too. `seed` is folded into 32 bits, and the same seed gives the same text on every replica with the
  same `system_fingerprint`.
- A `max_tokens` that n_ctx has no room for is lowered.
- A prompt that is the text `<|endoftext|>`, OpenAI's own default, is the empty one: a new document. Within other text
  these characters are only characters.
- `usage` counts the tokens that the model reads and those of the text: in prompt_tokens the `<|endoftext|>` that the
  service puts in front of a text, which `logprobs` does not list; in completion_tokens not the one by which the model
  ended the text, which `logprobs` does list. Tokens that a stop string has cut off count, as they were made.
"""
