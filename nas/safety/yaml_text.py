"""YAML that someone else may have written: bounded in size, depth and what aliases stand for.

PyYAML's safe loader makes no objects but runs as deep, as long and as wide as a file wants it to: nine lines of
aliases of aliases ("a billion laughs") stand for more values than fit into memory, and a number of a hundred thousand
digits takes minutes. Here such files are refused from their nodes, before a value is made.
"""

from __future__ import annotations

from typing import Any

import yaml

from nas.safety.limits import MOST_YAML_DEPTH, MOST_YAML_NUMBER, MOST_YAML_VALUES

_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


class BoundedLoader(yaml.SafeLoader):
    """PyYAML's safe loader, within the limits of ``nas.safety.limits``. A key that stands twice is an error."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0
        # How many values a node stands for, by its identity, with the node so that it stays; of those that are done.
        self._values: dict[int, tuple[int, yaml.Node]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark, is_alias = event.start_mark, isinstance(event, yaml.AliasEvent)
        self._depth += 1
        if self._depth > MOST_YAML_DEPTH:
            raise _error(f"more than {MOST_YAML_DEPTH} lists and mappings lie within one another", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if node is None or is_alias:
            if node is not None and id(node) not in self._values:  # it is still being read
                raise _error("an alias stands for what holds it", mark)
            return node
        values = 1 + sum(self._values[id(child)][0] for child in _children(node))
        if values > MOST_YAML_VALUES:
            raise _error(f"it stands for more than {MOST_YAML_VALUES:,} values, aliases written out", mark)
        if node.tag in _NUMBERS and len(node.value) > MOST_YAML_NUMBER:
            raise _error(f"a number has more than {MOST_YAML_NUMBER} digits", mark)
        self._values[id(node)] = values, node
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise DoubleKeyError(key, node)
            seen.add(key.value)
        return node


class DoubleKeyError(yaml.composer.ComposerError):
    """A key stands twice in a mapping, of which YAML would silently keep the last.

    Args:
        key: The second one.
        mapping: Where it stands.
    """

    def __init__(self, key: yaml.ScalarNode, mapping: yaml.MappingNode) -> None:
        super().__init__(None, None, f"the key '{key.value}' stands twice", key.start_mark)
        self.key: str = key.value
        self.line: int = mapping.start_mark.line + 1


def load_yaml(text: str) -> Any:
    """What a YAML text of one document holds: plain values, lists and mappings.

    Raises:
        yaml.YAMLError, ValueError: It is no YAML, or beyond a limit; the message says where.
    """
    try:
        return yaml.load(text, BoundedLoader)
    except (TypeError, RecursionError, AttributeError, IndexError, KeyError) as error:
        # PyYAML stumbles over some values: '!!timestamp x', '!!int ""', a mapping that is merged with itself.
        raise ValueError(f"a value cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from error


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _error(problem: str, mark: yaml.Mark) -> yaml.composer.ComposerError:
    return yaml.composer.ComposerError(None, None, problem, mark)
