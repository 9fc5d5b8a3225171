"""x"""


class TableReader: ...
