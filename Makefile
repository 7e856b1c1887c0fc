.PHONY: lint test demo

lint:
	scripts/lint

test:
	scripts/test all

demo:
	scripts/demo
