"""GPT-2 (Radford et al. 2019) and its modern successor, the default, which is Llama's."""
