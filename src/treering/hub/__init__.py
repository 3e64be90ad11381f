"""The Hub: a release's revisions, wherever they lie; published, branch by branch, and read back; served on this machine.

Reads: a repository on a Hub, at the commits that its branches point to; or a run, its `revisions/`, or any folder of models.
Writes: what is downloaded, into Hugging Face's local cache; what is published, to a Hub; what is pushed to a served folder,
into it.
Promises: settings, tokenizers and safetensors are all that is downloaded, each once; no pickle is loaded and no code of a
repository is run; nothing that a server says becomes a path; no token is sent to an address that was named by hand.
"""
