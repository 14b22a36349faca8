"""Encoders of the transformers library as networks of text diffusion."""

import pytest
import torch

from ornstein.core.adapter import DomainAdapter
from ornstein.domains.text import CharacterTokenizer, EncoderNetwork, TextDiffusion

transformers = pytest.importorskip("transformers", reason="the extra text is not installed")

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
CONFIGS = {kind: {"model_type": kind, **SMALL} for kind in ("bert", "roberta", "modernbert")}
TOKENIZER = CharacterTokenizer("abc ")


def awake(network):
    torch.manual_seed(0)
    torch.nn.init.normal_(network.leave.weight, std=0.5)
    return network.eval()


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_an_encoder_carries_a_masked_model(kind, tmp_path):
    network = awake(EncoderNetwork(CONFIGS[kind], 6, attributes={"topic": 2}, timed=False))
    assert network(torch.tensor([[0, 5, 1]])).shape == (1, 3, 6)
    model = TextDiffusion(TOKENIZER, length=6, network=network, attributes={"topic": ("sea", "sky")})
    texts = model.sample(3, seed=0, topic="sky")
    model.save_pretrained(tmp_path)
    assert DomainAdapter.from_pretrained(tmp_path).sample(3, seed=0, topic="sky") == texts
    loss = model.objective(model.denoiser, torch.tensor([[0, 1, 2]]), topic=torch.tensor([1]))
    loss.sum().backward()
    assert model.infill(["a[2]b"], seed=0)[0][0] == "a"


def test_padding_is_not_seen():
    network = awake(EncoderNetwork(CONFIGS["bert"], 6, timed=False))
    mask = torch.tensor([[True, True, False]])
    one, other = (network(torch.tensor([[1, 5, last]]), mask=mask)[:, :2] for last in (0, 3))
    torch.testing.assert_close(one, other)


def test_vectors_with_time_and_estimate():
    network = awake(EncoderNetwork(CONFIGS["bert"], 4, 5, vectors=True, estimate=True))
    model = TextDiffusion(TOKENIZER, length=6, kind="embedding", network=network, dimensions=4)
    assert len(model.sample(2, seed=0)) == 2
    x = torch.randn(1, 3, 4)
    assert not torch.allclose(network(x, torch.zeros(1)), network(x, torch.ones(1)))


def test_saved_weights_are_taken(tmp_path):
    torch.manual_seed(1)
    saved = transformers.BertModel(transformers.BertConfig(vocab_size=5, **SMALL))
    saved.save_pretrained(tmp_path)
    network = EncoderNetwork.from_folder(tmp_path, 6, timed=False)
    own = network.encoder.state_dict()
    for name, value in saved.state_dict().items():
        if "word_embeddings" in name:
            assert torch.equal(own[name][:5], value)
        else:
            assert torch.equal(own[name], value), name


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(ValueError, match="model_type='brt'"):
        EncoderNetwork({"model_type": "brt"}, 6)
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        EncoderNetwork.from_folder(tmp_path, 6)
    network = EncoderNetwork(CONFIGS["bert"], 6)
    with pytest.raises(ValueError, match="c is missing"):
        network(torch.tensor([[1]]))
    with pytest.raises(ValueError, match="unknown condition 'tone'"):
        network(torch.tensor([[1]]), torch.zeros(1), tone=torch.tensor([1]))
