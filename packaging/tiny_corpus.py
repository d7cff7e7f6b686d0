"""Generic text and chat exercises, generated, for pretraining the built-in tiny base model."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llamaduo_gui.providers.grammar import expand

WORDS_FILE = Path(__file__).with_name("tiny_corpus.toml")

HURRY_ANSWER = {"hurry": "in a hurry", "calm": "plenty of time", "neutral": "not said"}
FIELD_NAMES = {
    "matter": ["matter", "what", "trouble", "about"],
    "area": ["area", "kind", "field", "part"],
    "pace": ["pace", "time", "mood"],
    "number": ["number", "code", "reference", "no."],
    "thing": ["thing", "subject", "object"],
}


class Turn(NamedTuple):
    """One chat turn: `role` is system, user or assistant."""

    role: str
    content: str


class Message(NamedTuple):
    """A generated letter and what is true of it (each fact keyed as in FIELD_NAMES)."""

    text: str
    facts: Mapping[str, str]


class TinyCorpus:
    """Writes chat exercises and plain sentences from the word lists, seeded."""

    def __init__(self, seed: int, words_file: Path = WORDS_FILE) -> None:
        """Load the word lists; every text that follows depends on `seed` and on the call order."""
        self.rng = random.Random(seed)
        self.data: dict[str, Any] = tomllib.loads(words_file.read_text(encoding="utf-8"))
        self.topics = {label: words.split() for label, words in self.data["topics"].items()}
        self.events: dict[str, dict[str, Any]] = self.data["events"]
        self.slots: dict[str, list[str]] = {
            **self.data["slots"],
            "topicword": [word for words in self.topics.values() for word in words],
        }
        self.exercises: list[tuple[Callable[[], tuple[str, str]], float]] = [
            (self.ask_about_message, 5.0),
            (self.list_facts, 6.0),
            (self.copy_number, 2.0),
            (self.choose_matter, 3.0),
            (self.label_message, 1.0),
            (self.reply_to_message, 1.5),
            (self.name_topic, 3.0),
            (self.repeat, 4.0),
            (self.pick_word, 1.5),
            (self.count_words, 0.4),
            (self.mentions, 0.8),
            (self.calculate, 0.4),
            (self.spell, 0.5),
            (self.small_talk, 0.4),
        ]

    def chats(self) -> Iterator[list[Turn]]:
        """Yield conversations without end: mostly one exercise, at times two or a system turn."""
        makers = [maker for maker, _ in self.exercises]
        weights = [weight for _, weight in self.exercises]
        while True:
            turns = []
            if self.rng.random() < 0.04:
                turns.append(Turn("system", self.rng.choice(["Answer briefly.", "Be helpful."])))
            for _ in range(2 if self.rng.random() < 0.05 else 1):
                question, answer = self.rng.choices(makers, weights)[0]()
                turns += [Turn("user", question), Turn("assistant", answer)]
            yield turns

    def prose(self, sentences: int) -> str:
        """A few unrelated sentences in a row, half of the time said twice (copying is a skill)."""
        text = " ".join(self.sentence() for _ in range(sentences))
        return f"{text} {text}" if self.rng.random() < 0.5 else text

    def sentence(self) -> str:
        """One sentence from the frames, first letter in upper case."""
        text = expand(self.rng.choice(self.data["frames"]["sentences"]), self.slots, self.rng)
        return _capital(text)

    def identifier(self) -> str:
        """A reference number: mostly digits alone, at times with letters."""
        length = self.rng.choice([4, 5, 5, 5, 6])
        digits = "".join(self.rng.choice("0123456789") for _ in range(length))
        letters = "".join(self.rng.choice("ABCDEFGHKMNPRSTWX") for _ in range(2))
        return digits if self.rng.random() < 0.85 else f"{letters}-{digits}"

    def message(self) -> Message:
        """A short letter about one event; the facts are None-free: absent ones say so in words."""
        rng, parts = self.rng, self.data["messages"]
        matter = rng.choice(list(self.events))
        event = self.events[matter]
        subject = expand(rng.choice(self.data["subjects"][event["about"]]), self.slots, rng)
        body = expand(rng.choice(event["says"]), {**self.slots, "subject": [subject]}, rng)
        asks = ("how", "can", "do ", "when", "wh", "is ", "are ", "will", "did", "could")
        end = "?" if body.startswith(asks) else rng.choice([".", ".", "!"])
        pace = rng.choice(list(HURRY_ANSWER))
        number = self.identifier() if rng.random() < 0.7 else "no number"
        pieces = [_capital(body) + end, expand(rng.choice(parts[pace]), self.slots, rng)]
        pieces.append(_capital(expand(rng.choice(parts["aside"]), self.slots, rng)))
        if number != "no number":
            pieces.append(expand(rng.choice(parts["number"]), {**self.slots, "id": [number]}, rng))
        rng.shuffle(pieces)
        hello = rng.choice(parts["hello"])
        bye = expand(rng.choice(parts["bye"]), self.slots, rng)
        text = " ".join(piece for piece in [hello, *pieces, bye] if piece)
        if rng.random() < 0.15:
            text = text.lower()
            number = number.lower()
        facts = {"matter": matter, "area": event["area"], "pace": HURRY_ANSWER[pace]}
        return Message(text, {**facts, "number": number, "thing": subject.lower()})

    def ask_about_message(self) -> tuple[str, str]:
        """One question about a letter, before or after it."""
        letter = self.message()
        wording = {
            "matter": ["What is the matter?", "What happened?", "What is this letter about?"],
            "area": ["Which area is this?", "What kind of letter is it?", "Sort this letter."],
            "pace": ["Is the writer in a hurry?", "How soon must it be?", "Is there time?"],
            "number": ["Which number is given?", "Copy the number.", "What is the code?"],
            "thing": ["Which thing is meant?", "What is it about, in its own words?"],
        }
        fact = self.rng.choice(list(wording))
        return self._around(self.rng.choice(wording[fact]), letter.text), letter.facts[fact]

    def list_facts(self) -> tuple[str, str]:
        """Several facts of a letter, as `key = value` lines or as JSON, in the order asked for."""
        letter = self.message()
        fields = self.rng.sample(list(FIELD_NAMES), self.rng.choice([2, 3, 4, 5]))
        names = [self.rng.choice(FIELD_NAMES[field]) for field in fields]
        pairs = {name: letter.facts[field] for name, field in zip(names, fields, strict=True)}
        if self.rng.random() < 0.25:
            return self._around(f"As JSON: {' '.join(names)}", letter.text), json.dumps(pairs)
        lines = "\n".join(f"{name} = {value}" for name, value in pairs.items())
        ask = self.rng.choice(["Note down", "Fill in", "Write lines for", "Form:"])
        return self._around(f"{ask} {' '.join(names)}", letter.text), lines

    def copy_number(self) -> tuple[str, str]:
        """Copy a number out of a sentence, or say that there is none."""
        number = self.identifier()
        ask = self.rng.choice(["Copy the number.", "Find the number.", "Which code is there?"])
        words = self.sentence().split()
        if self.rng.random() < 0.2:
            return self._around(ask, " ".join(words)), "no number"
        words.insert(self.rng.randrange(len(words)), number)
        return self._around(ask, " ".join(words)), number

    def choose_matter(self) -> tuple[str, str]:
        """Pick the event of a letter, or the topic of words, from options given."""
        letter = self.message()
        options = self.rng.sample([e for e in self.events if e != letter.facts["matter"]], 3)
        options.insert(self.rng.randrange(4), letter.facts["matter"])
        ask = self.rng.choice(["Choose one of", "Options:", "Which one fits:"])
        return self._around(f"{ask} {', '.join(options)}.", letter.text), letter.facts["matter"]

    def label_message(self) -> tuple[str, str]:
        """A joined label for a letter."""
        letter = self.message()
        label = f"{letter.facts['area']}_{letter.facts['matter']}".replace(" ", "_")
        return self._around("Label it.", letter.text), label

    def reply_to_message(self) -> tuple[str, str]:
        """An answer to a letter, or to anything else that asks for nothing known."""
        reply = expand(self.rng.choice(self.data["frames"]["replies"]), self.slots, self.rng)
        if self.rng.random() < 0.6:
            words = self.rng.choices(self.slots["topicword"], k=self.rng.choice([1, 2, 3, 5]))
            ask = _capital(" ".join(words)) + self.rng.choice(".:!?")
            return self._around(ask, self.message().text), reply
        return self.rng.choice([self.message().text, self.sentence()]), reply

    def name_topic(self) -> tuple[str, str]:
        """The topic that a few words share."""
        topic = self.rng.choice(list(self.topics))
        words = self.rng.sample(self.topics[topic], self.rng.choice([2, 3, 4, 5]))
        ask = self.rng.choice(["Topic of these words?", "What do these have in common?", "Topic?"])
        return self._around(ask, ", ".join(words)), topic

    def repeat(self) -> tuple[str, str]:
        """Say the same again, words or made-up strings."""
        text = self.sentence() if self.rng.random() < 0.6 else self._made_up()
        return self._around(self.rng.choice(["Repeat this.", "Say it again.", "Copy."]), text), text

    def pick_word(self) -> tuple[str, str]:
        """The first, second or last word."""
        words = self.sentence().rstrip(".?").split()
        which, index = self.rng.choice([("first", 0), ("second", 1), ("last", -1)])
        return self._around(f"What is the {which} word?", " ".join(words)), words[index]

    def count_words(self) -> tuple[str, str]:
        """How many words a short list has."""
        words = self.rng.sample(self.slots["topicword"], self.rng.randint(1, 9))
        return self._around("How many words?", " ".join(words)), str(len(words))

    def mentions(self) -> tuple[str, str]:
        """Whether a word occurs in a text."""
        text = f"{self.sentence()} {self.sentence()}"
        word = self.rng.choice(text.split()).strip(".,?")
        if self.rng.random() < 0.5:
            word = self.rng.choice(self.slots["topicword"])
        found = word in [token.strip(".,?") for token in text.split()]
        return self._around(f"Is the word {word} in the text?", text), "yes" if found else "no"

    def calculate(self) -> tuple[str, str]:
        """A small sum or difference."""
        left, right = self.rng.randint(0, 60), self.rng.randint(0, 30)
        if self.rng.random() < 0.5:
            return f"What is {left} plus {right}?", str(left + right)
        return f"What is {left + right} minus {right}?", str(left)

    def spell(self) -> tuple[str, str]:
        """The letters of a word."""
        word = self.rng.choice(self.slots["topicword"])
        return f"Spell {word}.", " ".join(word)

    def small_talk(self) -> tuple[str, str]:
        """A greeting and its answer."""
        question, answer = self.rng.choice(self.data["frames"]["smalltalk"])
        return question, answer

    def _around(self, ask: str, text: str) -> str:
        layout = self.rng.choice(["{a}\n\n{t}", "{a}\n\n{t}", "{a}\n{t}", "{t}\n\n{a}", "{a} {t}"])
        return layout.replace("{a}", ask).replace("{t}", text)

    def _made_up(self) -> str:
        alphabets: Sequence[str] = ["abcdefghijklmnopqrstuvwxyz", "0123456789", "ABCDEFGHXYZ-_/#é"]
        return " ".join(
            "".join(self.rng.choices(self.rng.choice(alphabets), k=self.rng.randint(1, 6)))
            for _ in range(self.rng.randint(1, 5))
        )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
