"""The report of `aocr test --report`: a page for people, and the same facts as files for programs."""
