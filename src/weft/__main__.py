from weft.cli.main import run

run()
