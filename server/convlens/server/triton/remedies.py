"""What whoever runs the server can do where Triton cannot be reached."""

# Waiting helps none of these.
REMEDIES = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not signed by an authority in triton_ca: "
    "give the file with the certificate of the authority that signed it",
    "Hostname Verification Check failed": "its certificate is for another name: write one of the "
    "names that it is for in triton_url",
    "WRONG_VERSION_NUMBER": "it does not speak TLS: leave triton_ca out, "
    "or start Triton with --grpc-use-ssl=true",
    "protocol is restricted": "it takes no call that lists its models without the right key: give "
    "the KEY of its --grpc-restricted-protocol=model-repository,...:convlens=KEY as triton_key",
}


def remedy(text: str) -> str:
    """What to do about a connection that failed with `text`; empty where waiting may help."""
    return next((words for sign, words in REMEDIES.items() if sign in text), "")
