"""Credit item by item, and what is told of mistakes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from upaya.corpus.answers import gold_completion, parse
from upaya.corpus.questions import Question
from upaya.declared.grpo import Refill, Scaling
from upaya.declared.regimes import Hints, Regime
from upaya.policy.model import Policy
from upaya.rewards.components import BY_ITEM, COMPONENTS, component
from upaya.rewards.items import item_values, right_items, said_items
from upaya.rewards.scoring import score
from upaya.sampling.decoding import Rollouts
from upaya.training.grpo.batch import Batch
from upaya.training.grpo.credit import FORM, WHOLE, Earned, token_slots
from upaya.training.grpo.hints import Giver, beginning
from upaya.training.grpo.switching import RunningStatistics
from upaya.training.sft.from_scratch import from_config, train_tokenizer

ALTERNATIVES = ["善", "不善", "无记"]


def asked(answer: object, answer_type: str, **more: object) -> Question:
    fixed = {"id": "q", "kind": "k", "split": "train", "key": "k", "prompt": "?", "reasoning": "", "source": "s"}
    answers = {"answer": answer, "answer_traditional": answer, "answer_type": answer_type, "prompt_traditional": "?"}
    return Question.model_validate({**fixed, **answers, **more})


LIST = asked(["无记", "有对", "善及不善"], "ordered_list", choices=[ALTERNATIVES, ["有对", "无对"], ALTERNATIVES])
SET = asked(["善", "不善", "无记"], "set")
LENIENT = Regime.model_validate({"components": {"format": {"weight": 0.1}, "positions": {"weight": 0.9}}})
ITEMWISE = LENIENT.model_copy(update={"credit": "item"})


def says(*items: str) -> str:
    return gold_completion(list(items), "")


def earned(texts: list[str], question: Question, regime: Regime) -> Earned:
    return Earned.under("r", regime, score([texts], [question], {"r": regime}))


@pytest.mark.parametrize(
    ("name", "values"),
    [("positions", [0, 0, 0]), ("offered", [1, 0, 1]), ("shared", [0, 0, 0.5]), ("resemblance", [0, 0.5, 0.25])],
)
def test_each_rung_values_an_item_in_its_own_way(name: str, values: list[float]) -> None:
    completion = (
        parse(says("善", "无对吗"[:1] + "对", "善")) if name == "resemblance" else parse(says("善", "何", "善"))
    )
    found = item_values(BY_ITEM[name], said_items(completion, LIST), completion, LIST)
    assert found == pytest.approx(values) and component(name)(completion, LIST) == pytest.approx(sum(values) / 3)


def test_items_of_a_set_are_compared_with_those_they_equal() -> None:
    completion = parse(says("无记", "何", "善"))
    assert [item.slot for item in said_items(completion, SET)] == [2, 1, 0]  # the stranger with what is left
    assert component("positions")(completion, SET) == pytest.approx(2 / 3)


def test_one_too_many_is_compared_with_nothing_and_lowers_the_whole() -> None:
    completion = parse(says("无记", "有对", "善及不善", "善"))
    assert [item.slot for item in said_items(completion, LIST)] == [0, 1, 2, None]
    assert component("positions")(completion, LIST) == pytest.approx(3 / 4)


items = st.lists(st.sampled_from(["无记", "有对", "善及不善", "善", "无对", "何"]), min_size=0, max_size=5)


@given(st.lists(items, min_size=2, max_size=6))
def test_the_mean_over_the_items_is_what_the_whole_earns(group: list[list[str]]) -> None:
    """What items are told adds up to what a completion is told, for answers of as many items as the right one."""
    texts = [says(*said) if said else "" for said in group]
    found, whole = earned(texts, LIST, ITEMWISE), earned(texts, LIST, LENIENT)
    assert found.parts_PGK is not None and whole.parts_PGK is None
    assert torch.equal(found.rewards_PG, whole.rewards_PG)
    for g, text in enumerate(texts):
        if len(said_items(parse(text), LIST)) <= len(right_items(LIST)):
            assert found.parts_PGK[0, g, 1:].mean().item() == pytest.approx(found.rewards_PG[0, g].item())


@given(st.lists(st.sampled_from(["第六意识", "第六", "意识", "", "何"]), min_size=2, max_size=6))
def test_with_one_item_it_is_credit_for_the_completion(group: list[str]) -> None:
    question, texts = asked("第六意识", "term"), [gold_completion(said, "") for said in group]
    regime = Regime.model_validate(
        {
            "components": {"format": {"weight": 0.1}, "resemblance": {"weight": 0.9}},
            "penalties": {"malformed": 0.5, "wrong": 0.2},
            "floor": -1,
            "credit": "item",
        }
    )
    found = earned(texts, question, regime)
    assert found.parts_PGK is not None
    assert torch.allclose(found.parts_PGK, found.rewards_PG[..., None])
    told = found.advantages("none", torch.tensor([[[WHOLE, FORM, 1]] * len(group)]))
    assert torch.allclose(told, told[..., :1])


def test_the_form_has_no_part_in_the_blame_for_items_and_a_bad_one_none_in_the_praise() -> None:
    short, long, badly = (
        says("无记", "有对"),
        says("无记", "有对", "善及不善", "善"),
        says("无记", "有对", "善及不善") + "善</answer>",
    )
    texts = [says("何", "何", "何"), says("无记", "有对", "善及不善"), short, long, badly]
    found = earned(texts, LIST, ITEMWISE)
    assert found.parts_PGK is not None
    # 0.1 for the form (three fifths of it where a tag stands twice), 0.9 for the items, were they right
    wanted = [1, 1, 0.1 + 0.9 * 2 / 3, 0.1 + 0.9 * 3 / 4, 0.1 * 3 / 5 + 0.9]
    assert found.parts_PGK[0, :, FORM].tolist() == pytest.approx(wanted)
    told = found.advantages("none", torch.full((1, 5, 1), FORM)).flatten()
    assert told[1] > told[0] > 0 and told[2] < 0 and told[3] < 0  # the second shares in what its items are praised for
    pair = earned([texts[0], badly], LIST, ITEMWISE)
    assert pair.rewards_PG[0, 1] > pair.rewards_PG[0, 0]  # by its right items it earns the more …
    of_form = pair.advantages("none", torch.full((1, 2, 1), FORM)).flatten()
    assert of_form[0] > 0 > of_form[1]  # … and its bad end is not what earned it


def test_a_group_is_live_where_one_item_is() -> None:
    texts = [says("无记", "无对", "善"), says("善", "有对", "善")]  # one right each
    assert not earned(texts, LIST, LENIENT).live_P.any() and earned(texts, LIST, ITEMWISE).live_P.all()
    told = earned(texts, LIST, ITEMWISE).advantages("none", torch.tensor([[[1, 2, 3, WHOLE]] * 2]))
    assert told[0].tolist() == [pytest.approx([0.45, -0.45, 0, 0]), pytest.approx([-0.45, 0.45, 0, 0])]


@pytest.mark.parametrize("punishment", [0.0, 0.3, 1.0])
def test_punishment_weighs_what_lies_below_the_mean(punishment: float) -> None:
    texts = [says("无记", "有对", "善及不善"), says("何", "何", "何")]
    regime = LENIENT.model_copy(update={"punishment": punishment})
    told = earned(texts, LIST, regime).advantages("none", torch.full((1, 2, 1), WHOLE)).flatten().tolist()
    assert told == pytest.approx([0.45, -0.45 * punishment])


@pytest.mark.parametrize("scaling", ["none", "group", "mean"])
def test_a_ladder_that_climbs_within_a_refill_tells_each_round_what_it_is_told_alone(
    scaling: Scaling,
) -> None:
    """Rounds with credit to items and such with credit to completions, in answers of different lengths."""
    texts = [says("无记", "何", "善及不善"), says("何", "何", "何"), says("何", "有对", "善"), "何"]
    whole = LENIENT.model_copy(update={"punishment": 0.5, "entropy": 0.1})
    itemwise = ITEMWISE.model_copy(update={"entropy": 0.2})
    short = asked(["有对"], "ordered_list", choices=[["有对", "无对"]])
    rounds = [
        (earned(texts, LIST, itemwise), torch.tensor([[[WHOLE, FORM, 1, 2, 3]] * 4])),
        (earned(texts, LIST, whole), None),
        (
            earned([says("有对"), says("何"), "何", "有对"], short, itemwise),
            torch.tensor([[[FORM, 1, 1, FORM, FORM]] * 4]),
        ),
    ]
    blank = torch.zeros(1, 4, 5)
    together = Batch(Refill(type="refill", live=3, most_rounds=3))
    for part, slots in rounds:
        together.add(
            Rollouts([[0]], blank.long(), blank[..., 0].long() + 5, blank, blank, blank, blank[..., 0] == 0),
            part,
            ["q"],
            slots,
        )
    told, worth = together.advantages(scaling), together.earned.entropy_bonus(together.slots_PGT)
    for place, (part, slots) in enumerate(rounds):
        own = torch.full((1, 4, 5), FORM) if slots is None else slots
        assert torch.equal(told[place], part.advantages(scaling, own)[0])
        assert torch.equal(worth[place], part.entropy_bonus(own)[0])
    assert together.live == [0, 1, 2]


def test_scaling_by_the_mean_weighs_a_rare_success_by_its_rarity() -> None:
    texts = [says("无记", "有对", "善及不善")] + [says("何", "何", "何")] * 7
    regime = Regime.model_validate({"components": {"positions": {"weight": 1}}})
    told = earned(texts, LIST, regime).advantages("mean", torch.full((1, 8, 1), WHOLE)).flatten().tolist()
    assert told == pytest.approx([7.0] + [-1.0] * 7, rel=1e-2)  # (1 − p) / p and −1 for p = 1/8


def test_an_item_that_is_seldom_right_weighs_the_more_in_its_own_group() -> None:
    regime = Regime.model_validate({"components": {"positions": {"weight": 1}}, "credit": "item"})
    texts = [says("无记", "有对", "何"), says("无记", "何", "何"), says("无记", "何", "何"), says("何", "何", "何")]
    told = earned(texts, LIST, regime).advantages("mean", torch.tensor([[[1, 2, 3]] * 4]))[0]
    wanted = [[1 / 3, 3.0, 0.0], [1 / 3, -1.0, 0.0], [1 / 3, -1.0, 0.0], [-1.0, -1.0, 0.0]]  # of (1 − p) / p and −1
    assert told.flatten().tolist() == pytest.approx([number for row in wanted for number in row], rel=1e-3)


def test_entropy_is_worth_something_where_nothing_of_the_group_is_right() -> None:
    texts = [says("无记", "有对", "善"), says("何", "何", "何")]
    slots = torch.tensor([[[WHOLE, 1, FORM, 2, 3, FORM]] * 2])
    worth = {"entropy": 0.25}
    itemwise = earned(texts, LIST, ITEMWISE.model_copy(update=worth)).entropy_bonus(slots)
    assert itemwise.tolist() == [[[0, 0, 0, 0, 0.25, 0]] * 2]  # the third item alone was never right
    whole = LENIENT.model_copy(update=worth)
    assert earned(texts, LIST, whole).entropy_bonus(slots).unique().tolist() == [0.25]
    assert not earned([*texts, says("无记", "有对", "善及不善")], LIST, whole).entropy_bonus(slots).any()
    assert not earned(texts, LIST, ITEMWISE).entropy_bonus(slots).any()


def test_a_blend_of_regimes_blends_credit_and_punishment() -> None:
    texts = [says("无记", "无对", "善"), says("善", "有对", "何")]
    mild = earned(texts, LIST, ITEMWISE.model_copy(update={"punishment": 0.0, "entropy": 0.1}))
    plain = earned(texts, LIST, LENIENT)
    found = Earned.blended([mild, plain], [0.5, 0.5])
    assert mild.parts_PGK is not None and found.parts_PGK is not None
    assert torch.allclose(found.parts_PGK, (mild.parts_PGK + plain.rewards_PG[..., None]) / 2)
    assert found.punishment_P.tolist() == [0.5]
    assert found.entropy_PK.tolist() == [pytest.approx([0, 0, 0, 0.05])]
    by_group = Earned.chosen([mild, plain], torch.tensor([1]))
    assert by_group.parts_PGK is not None and torch.equal(by_group.parts_PGK[..., 1], plain.rewards_PG)


# --- which token belongs to which item --------------------------------------------------------------------------------

LINES = ["眼界，有见／无见者，无见。", "色界，有见／无见者，有见。", "<answer>无记、有对、善及不善</answer>"] * 5


@pytest.fixture(scope="module")
def policy() -> Policy:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1,
             "num_key_value_heads": 1, "max_position_embeddings": 128}  # fmt: skip
    return from_config({"model_type": "llama", **sizes}, train_tokenizer(LINES, 400), seed=1)


@given(st.lists(st.integers(0, 399), max_size=30))
def test_tokens_start_where_the_text_before_them_ends(policy: Policy, tokens: list[int]) -> None:
    """Any tokens, also such as make no whole character."""
    tokens = [token for token in tokens if token < len(policy.tokenizer) and token not in policy.eos_ids]
    starts, text = policy.token_starts(tokens), policy.decode(tokens)
    assert len(starts) == len(tokens) and starts == sorted(starts) and all(start <= len(text) for start in starts)
    for place in range(len(tokens)):
        before = policy.decode(tokens[:place])
        if not before.endswith("\N{REPLACEMENT CHARACTER}"):
            assert starts[place] == len(before)


def test_items_are_found_among_the_tokens(policy: Policy) -> None:
    text = "<think></think><answer>无记、何善、善及不善</answer>"
    tokens = policy.encode_completion(text)
    rollouts = Rollouts(
        [[0]], torch.tensor([[tokens, tokens]]), torch.tensor([[len(tokens), len(tokens)]]),
        *(torch.zeros(1, 2, len(tokens)) for _ in range(3)), torch.ones(1, 2, dtype=torch.bool),
    )  # fmt: skip
    found = token_slots(policy, rollouts, score([[text, text]], [LIST], {"r": ITEMWISE}).said)
    assert torch.equal(found[0, 0], found[0, 1])
    pieces: dict[int, str] = {}
    for place, (slot, start) in enumerate(zip(found[0, 0].tolist(), policy.token_starts(tokens), strict=True)):
        end = [*policy.token_starts(tokens), len(text)][place + 1] if place + 1 < len(tokens) else len(text)
        pieces[slot] = pieces.get(slot, "") + text[start:end]
    assert [pieces[slot].rstrip("、<") for slot in (1, 2, 3)] == ["无记", "何善", "善及不善"]
    assert pieces[WHOLE].endswith("<answer>") and pieces[FORM].endswith("</answer>")
    assert math.isclose(len("".join(pieces.values())), len(text))


def test_a_hint_is_the_beginning_of_the_right_answer_and_leaves_something_to_say() -> None:
    whole = gold_completion(LIST.answer, "")
    assert [beginning(LIST, items) for items in (0, 1, 2)] == [
        "",
        whole[: whole.index("有对")],
        whole[: whole.index("善及")],
    ]
    assert beginning(LIST, 9) == beginning(LIST, 2)
    assert beginning(asked("第六意识", "term"), 1) == ""


def test_hints_grow_fewer_with_success_and_never_more() -> None:
    giver, statistics, given = Giver(Hints(items=4, gone_at=0.5, window=1)), RunningStatistics(100), []
    for success in (0.0, 0.2, 0.1, 0.3, 0.5, 0.0):
        given.append(giver.next(statistics))
        statistics.update({"success": success})
        state = giver.state_dict()
        giver = Giver(Hints(items=4, gone_at=0.5, window=1))
        giver.load_state_dict(state)
    assert given == [4, 4, 2, 2, 2, 0] and giver.next(statistics) == 0


def test_what_was_given_is_scored_with_the_rest_and_has_no_tokens(policy: Policy) -> None:
    begin, rest = "<think></think><answer>无记、", "有对、善</answer>"
    tokens = policy.encode_completion(rest)
    assert policy.decode(tokens, begin) == begin + rest
    starts = policy.token_starts(tokens, begin)
    assert starts[0] == len(begin) and starts[-1] == len(begin + rest)
    assert starts == [start + len(begin) for start in policy.token_starts(tokens)]


MINDFULNESS = asked(
    ["身念住", "受念住", "心念住"], "ordered_list", accepted=[["身"], ["受", "于受"], ["心"]]
)  # members that the text itself shortens


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("answer_type", ["ordered_list", "set"])
def test_a_form_that_is_accepted_is_worth_what_the_right_item_is(name: str, answer_type: str) -> None:
    question = MINDFULNESS.model_copy(update={"answer_type": answer_type})
    pairs = [
        (says("身", "于受", "心"), says("身念住", "受念住", "心念住")),
        (says("受", "身念住", "何"), says("受念住", "身念住", "何")),
        (says("心", "心"), says("心念住", "心念住")),
    ]
    for short, whole in pairs:
        said, right = parse(short), parse(whole)
        if name == "length":  # a short form is no longer
            assert component(name)(said, question) >= component(name)(right, question)
        else:
            assert component(name)(said, question) == pytest.approx(component(name)(right, question))


@pytest.mark.parametrize("name", COMPONENTS)
def test_another_form_of_a_term_is_worth_all_of_it(name: str) -> None:
    term = asked("羯逻蓝", "term", accepted=[["羯剌蓝"]])
    assert component(name)(parse(gold_completion("羯剌蓝", "")), term) == 1


def test_a_question_without_other_forms_accepts_none() -> None:
    question = asked(["身念住", "受念住"], "ordered_list")
    assert component("positions")(parse(says("身", "受")), question) == 0
