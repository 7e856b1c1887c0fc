"""Operations of a SavedModel that reach out of TensorFlow: to files, to Python, to other machines.

TensorFlow marks as stateful whatever does more than compute. Of these operations a network needs few: variables, random
draws, control flow, tables, lists, checks. All others count as reaching out, and so do some that are not marked.
"""

import os
import re
from collections.abc import Iterator
from typing import Union

from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

_OF_NETWORKS = re.compile(
    r"(Var|Variable|ReadVariable|Assign\w*Variable|Resource|TemporaryVariable|DestroyResource|DisableCopyOnRead)\w*"
    r"|(Stateful|Random|Rng|Sample|TensorArray|Stack|Cudnn|CheckNumerics|Lookup)\w*"
    r"|(Anonymous|Mutable|MutableDense)*HashTable\w*|\w*TruncatedNormal|Multinomial|NonDeterministicInts|InitializeTableV2"
    r"|If|While|Case|Assert|Empty|DeviceIndex|GuaranteeConst|StatelessRandomGetAlg|XlaCallModule"
)
_NOT_MARKED = re.compile(
    r"ReadFile|MatchingFiles|ImmutableConst|PyFuncStateless|InitializeTableFromTextFile|Debug\w*|Reader\w*|\w*Dataset\w*|XlaCustomCall\w*"
)
_OF_SAVERS = {"SaveV2", "RestoreV2", "MergeV2Checkpoints"}


def reaching_operations(folder: Union[str, os.PathLike]) -> Iterator[str]:
    """What in a SavedModel reaches out, in words; nothing of one that only computes.

    Saving and restoring of variables is in every SavedModel: it does not count where only TensorFlow's saver calls it.

    ```python
    import tempfile

    from keras_flowreg.reaching_out import reaching_operations

    with tempfile.TemporaryDirectory() as folder:
        fr.export(model, folder + "/exported")
        assert not list(reaching_operations(folder + "/exported"))
    ```
    """
    saved = saved_model_pb2.SavedModel()
    with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
        saved.ParseFromString(file.read())
    for meta_graph in saved.meta_graphs:
        library = meta_graph.graph_def.library.function
        # Of another kind of SavedModel anything in the graph can be run by its signatures.
        is_saved_by_objects = len(saved.meta_graphs) == 1 and meta_graph.HasField("object_graph_def")
        savers = _saver_functions(meta_graph) if is_saved_by_objects else ()
        for name, nodes in [("", meta_graph.graph_def.node), *((f.signature.name, f.node_def) for f in library)]:
            allowed = _OF_SAVERS if name in savers else ()
            yield from (f"the operation {node.op}" for node in nodes if node.op not in allowed and _reaches_out(node))


def _saver_functions(meta_graph):
    """The functions that TensorFlow's saver calls, and nothing else does."""
    graph, saver = meta_graph.graph_def, meta_graph.saver_def
    named = {name.split(":")[0] for name in (saver.save_tensor_name, saver.restore_op_name)}
    of_saver = _called(node for node in graph.node if node.name in named)
    inside = _called(node for function in graph.library.function for node in function.node_def)
    others = _called(node for node in graph.node if node.name not in named)
    # TensorFlow may run one of those in the place of another one.
    alternatives = {each.signature.name for each in graph.library.function if "api_implements" in each.attr}
    return of_saver - inside - others - alternatives - set(meta_graph.object_graph_def.concrete_functions)


def _called(nodes):
    """The functions that nodes call: a branch or a body, too."""
    attributes = [attribute for node in nodes for attribute in node.attr.values()]
    return {function.name for each in attributes for function in (each.func, *each.list.func)}


def _reaches_out(node):
    if node.op == "PrintV2":
        return node.attr["output_stream"].s.startswith(b"file:")
    definition = op_def_registry.get(node.op)
    is_marked = definition is None or definition.is_stateful
    return not _OF_NETWORKS.fullmatch(node.op) if is_marked else bool(_NOT_MARKED.fullmatch(node.op))
