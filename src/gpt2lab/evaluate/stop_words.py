"""Lists of English function words, as the natural language toolkit NLTK has had them (lower case).

Which list OpenAI filtered LAMBADA's answers by was never published; `nltk127` is the one that public re-measurements
took (cybertronai/bflm), `nltk179` NLTK's later one, with its contractions and their fragments.
"""

from typing import Literal

StopWords = Literal["nltk127", "nltk179"]

_NLTK127 = frozenset(
    """
    i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it
    its itself they them their theirs themselves what which who whom this that these those am is are was were be been
    being have has had having do does did doing a an the and but if or because as until while of at by for with about
    against between into through during before after above below to from up down in out on off over under again further
    then once here there when where why how all any both each few more most other some such no nor not only own same so
    than too very s t can will just don should now
    """.split()
)
_NLTK179 = _NLTK127 | frozenset(
    """
    you're you've you'll you'd she's it's that'll don't should've d ll m o re ve y ain aren aren't couldn couldn't didn
    didn't doesn doesn't hadn hadn't hasn hasn't haven haven't isn isn't ma mightn mightn't mustn mustn't needn needn't
    shan shan't shouldn shouldn't wasn wasn't weren weren't won won't wouldn wouldn't
    """.split()
)
STOP_WORDS: dict[StopWords, frozenset[str]] = {"nltk127": _NLTK127, "nltk179": _NLTK179}
