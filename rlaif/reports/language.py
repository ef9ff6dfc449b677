"""Whether a text is in English, the one language whose negations the extraction knows."""

# Short words that tell English from German, French, Spanish, Italian, Portuguese and Turkish.
_ENGLISH = frozenset({
    "the", "is", "are", "of", "there", "and", "with", "without", "right", "left", "not", "seen", "lung",
    "lungs", "was", "were", "has", "have", "or", "to", "this", "which",
})  # fmt: skip
_OTHER = frozenset({
    "der", "die", "das", "und", "mit", "ist", "kein", "keine", "keinen", "keiner", "ohne", "nicht", "links",
    "rechts", "beidseits", "einer", "zur", "la", "les", "des", "une", "est", "sont", "avec", "sans", "pas",
    "aucun", "aucune", "gauche", "droit", "droite", "dans", "el", "los", "las", "del", "con", "sin", "hay",
    "una", "izquierdo", "izquierda", "derecho", "derecha", "ningún", "ninguna", "il", "della", "senza",
    "nessun", "nessuna", "sinistro", "destro", "di", "sono", "dos", "sem", "com", "esquerdo", "direito",
    "não", "ve", "bir", "sağ", "akciğer", "izlenmedi", "izlendi", "yok", "mevcut", "iki",
})  # fmt: skip


def is_english(text: str) -> bool:
    """Whether no other language's short words outnumber the English ones; a bare list of findings passes."""
    words = [word.strip(".,;:()") for word in text.lower().split()]
    return sum(map(_OTHER.__contains__, words)) <= sum(map(_ENGLISH.__contains__, words))
