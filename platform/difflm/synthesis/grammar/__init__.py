"""Grammars: which texts are records, as automata over tokens or as Lark grammars."""
