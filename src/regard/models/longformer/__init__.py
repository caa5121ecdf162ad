"""Longformer (Beltagy, Peters & Cohan 2020): RoBERTa for long texts, local and global attention."""
