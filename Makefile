.PHONY: test demo

test:
	scripts/test all

demo:
	scripts/demo
