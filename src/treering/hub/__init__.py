"""The Hub: a release's revisions, wherever they lie; published, read back and fetched; served on this machine; audited.

Reads: a repository on a Hub, at the commits that its branches point to; or a run, its `revisions/`, or any folder of models.
Writes: what is downloaded, into Hugging Face's local cache; what is fetched, into a run's folder; what is published, to a Hub;
what is pushed to a served folder, into it.
Promises: of anybody's models settings, tokenizers and safetensors are all that is downloaded, each once; what is fetched is
what the release's manifests list; no pickle is loaded and no code of a repository is run; nothing that a server says becomes a
path outside the folder; no token is sent to an address that was named by hand.
"""
