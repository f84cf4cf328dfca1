"""The verb that measures a model: on documents of one's own, or by tasks."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from gpt2lab.base.errors import BadOption
from gpt2lab.base.progress import duration, say
from gpt2lab.cli.output import command_line, next_command, print_json


def evaluate_verb() -> Callable[..., None]:
    import tyro

    from gpt2lab.evaluate.results import ProtocolName, Suite

    def command(
        model: tyro.conf.Positional[str],
        documents: tyro.conf.Positional[Path | None] = None,
        suite: Suite | None = None,
        protocol: ProtocolName = "paper",
        tasks: tuple[str, ...] = (),
        set: tuple[str, ...] = (),  # noqa: A002 - the option's name
        data: Path | None = None,
        fetch: bool = False,
        allow_changed_data: bool = False,
        text: tuple[Path, ...] = (),
        cloze: tuple[Path, ...] = (),
        choices: tuple[Path, ...] = (),
        training: tuple[Path, ...] = (),
        beside: tuple[Path, ...] = (),
        limit: int | None = None,
        predict: bool = False,
        explain: bool = False,
        out: Path | None = None,
        held_out_share: float | None = None,
        cloze_items: int = 200,
        json: bool = False,
    ) -> None:
        """Measure a model: by the paper's tasks (--suite table3), by files of your own, or on documents.

        Args:
            model: a model folder, a file of another format, or a name on the hub (gpt2, OWNER/NAME)
            documents: a folder that `build` made, Parquet files with a column text, or a .txt file: loss and a cloze
            suite: table3 (the paper's), choices (Winograd, HellaSwag, PIQA, ARC, WinoGrande, BoolQ), all
            protocol: paper; fast (stride 1,024 instead of 32); lm-eval (that harness's, score for score)
            tasks: only these of the suite, by name
            set: an option of a task, as in --set lambada.filter=none
            data: the folder with the sets, in any order
            fetch: get sets that are not there from their makers, checked by their SHA-256
            allow_changed_data: take sets whose hash or number of items is not the published one
            text: a text file of your own: perplexity, bits per byte
            cloze: a file of your own: passages whose last word is asked for, or gaps with candidates
            choices: a file of your own: contexts, choices, answers (JSON lines)
            training: the model's training documents, to tell how much of each set is in them
            beside: folders of other results, drawn in the same pictures
            limit: only the first so many items of each set
            predict: only tell how long it will take
            explain: run the options of each set, and tell which come closest to each published figure
            out: folder for results.json, report.html and a row an item; a killed run goes on there
            held_out_share: of the documents only those that `tokenize` held out at this share
            cloze_items: questions of the documents' cloze test; 0 leaves it out
            json: print the results as JSON
        """
        if documents is not None:
            if suite or tasks or text or cloze or choices:
                raise BadOption("give documents, or tasks (--suite, --text, --cloze, --choices): not both at once.")
            of_tasks = {
                "--set": set,
                "--data": data,
                "--fetch": fetch,
                "--allow-changed-data": allow_changed_data,
                "--training": training,
                "--beside": beside,
                "--limit": limit,
                "--predict": predict,
                "--explain": explain,
            }
            if unused := [name for name, value in of_tasks.items() if value not in (None, False, ())]:
                raise BadOption(f"{' '.join(unused)}: only with tasks (--suite, --text, --cloze, --choices).")
            return _evaluate_documents(model, documents, out, held_out_share, cloze_items, json)
        from gpt2lab.datasets.evaluation_sets import DataSource
        from gpt2lab.evaluate.results import read_results
        from gpt2lab.evaluate.tasks.registry import chosen_tasks, own_tasks, tasks_of, with_options
        from gpt2lab.pipelines.evaluation import evaluate_suite, predicted_seconds, prepare
        from gpt2lab.pipelines.evaluation_report import evaluation_text

        if held_out_share is not None:
            raise BadOption("--held-out-share: only with a folder of documents.")
        if predict and explain:
            raise BadOption("give --predict or --explain, not both at once.")
        if explain and (training or beside):
            raise BadOption(f"{'--training' if training else '--beside'}: not with --explain.")
        if not (suite or tasks or text or cloze or choices):
            raise BadOption("nothing to evaluate on: name --suite table3, --text FILE, or a folder of documents.")
        wanted = chosen_tasks(tasks_of(suite or "all", protocol), tasks) if suite or tasks else {}
        wanted = with_options(wanted | own_tasks(text, cloze, choices), set)
        if limit is not None and limit < 1:
            raise BadOption(f"--limit {limit}: must be at least 1.")
        source = DataSource(data, allow_changed_data, fetch)
        others = [read_results(folder) for folder in beside]
        evaluated = prepare(model, wanted, source, limit=limit, all_needed=bool(tasks))
        if predict:
            seconds = predicted_seconds(evaluated)
            return print_json({"seconds": seconds}) if json else print(f"about {duration(seconds)}")
        if explain:
            from gpt2lab.evaluate.explain import explanation_text
            from gpt2lab.pipelines.evaluation import explain_suite

            explanations = explain_suite(evaluated, source, out, limit)
            print_json([asdict(each) for each in explanations]) if json else print(explanation_text(explanations))
            if out is not None:
                say(f"{out}: explanation.json, and a row an item of each variant.")
            return None
        result = evaluate_suite(
            evaluated,
            out,
            suite=suite or "own",
            protocol=protocol,
            command=command_line(),
            training=training,
            beside=others,
        )
        if json:
            return print_json(result)
        print(evaluation_text(result))
        if out is not None:
            say(f"{out}: results.json, report.html, and a row an item in items/.")
            say(next_command(f"gpt2lab compare {out} OTHER_RESULTS"))
        return None

    def _evaluate_documents(
        model: str, documents: Path, out: Path | None, held_out_share: float | None, cloze_items: int, json: bool
    ) -> None:
        from gpt2lab.evaluate import evaluation
        from gpt2lab.generate.language_model import LanguageModel

        found = evaluation.evaluate(
            LanguageModel.load(model), documents, out, held_out_share=held_out_share, cloze_items=cloze_items
        )
        if json:
            return print_json(found)
        scores = found.language_modelling
        print(f"documents      {scores.documents:,} ({scores.tokens:,} tokens, {scores.text_bytes:,} bytes)")
        loss, bits = scores.loss_standard_error, scores.bits_per_byte_standard_error
        print(f"loss           {scores.loss:.4f}{'' if loss is None else f' ± {loss:.4f}'} nats a token")
        print(f"bits per byte  {scores.bits_per_byte:.4f}{'' if bits is None else f' ± {bits:.4f}'}")
        if found.cloze is not None:
            of_cloze = found.cloze
            accuracy = f"{of_cloze.accuracy:.1%} ± {of_cloze.standard_error:.1%}"
            print(f"cloze          {accuracy} of {of_cloze.items} (chance {of_cloze.chance:.0%})")
        return None

    return command
