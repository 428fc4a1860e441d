"""OpenAI's completions API, for the clients written for it: https://platform.openai.com/docs/api-reference/completions.

Paths, parameters, defaults, answers, streams and errors are OpenAI's. What differs:

- Parameters that the engine has nothing for are refused unless they have their neutral value; so are unknown ones.
- `top_k` is there too. `seed` is folded into 32 bits, and the same seed gives the same text on every replica with the
  same `system_fingerprint`.
- A `max_tokens` that n_ctx has no room for is lowered.
"""
