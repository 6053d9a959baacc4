"""The elected controller: what masters do about membership, beside answering requests."""
